"""Trainer with xloss's loss: a tiny random model, the numbers of transformers' own loss.

Expected values: transformers' `ForCausalLMLoss` under the same Trainer, and the law that 4 times 4
sequences accumulated are 16 at once, though micro-batches count different numbers of tokens.
"""

import copy
import math
import pickle
from functools import partial
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; the `test` extra has it")
why = "is not installed; the `test` extra has it"
transformers = pytest.importorskip("transformers", reason=f"transformers {why}")
pytest.importorskip("accelerate", reason=f"accelerate {why}; Trainer needs it")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402  torch may be missing
from transformers.loss.loss_utils import LOSS_MAPPING  # noqa: E402  transformers may be missing

import xloss.adapters.transformers as adapter  # noqa: E402  and transformers too
from tiny_models import LENGTH, MODELS, VOCABULARY, batch, llama, sequences  # noqa: E402  it imports both


def trained(tmp_path, model, *, batch_size, steps, bf16=False, **options):
    """Take one optimizer step over 16 sequences; return the loss that is logged and the weights."""
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=steps,
        max_steps=1,
        learning_rate=0.5,
        optim="sgd",
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=bf16,
        disable_tqdm=True,
        train_sampling_strategy="sequential",
        dataloader_pin_memory=False,
    )
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=sequences(), **options
    )
    trainer.train()
    return trainer.state.log_history[0]["loss"], torch.cat(
        [p.detach().ravel() for p in model.parameters()]
    )


WAYS = {
    "compute_loss_func": lambda model: {"compute_loss_func": adapter.causal_lm_loss},
    "patched": lambda model: adapter.patch_loss(model) or {},
    "fused": lambda model: adapter.patch_loss(model, fuse_head=True) or {},
}


@pytest.mark.parametrize(
    ("way", "steps", "bf16"),
    [
        ("compute_loss_func", 4, False),
        ("patched", 4, False),
        ("fused", 1, False),
        ("fused", 4, False),
        ("fused", 4, True),
    ],
)
def test_trainer_takes_the_step_of_its_own_loss(tmp_path, way, steps, bf16):
    """In mixed precision Accelerate wraps the forward pass and converts what it returns."""
    loss, weights = trained(tmp_path, llama(), batch_size=16, steps=1, bf16=bf16)
    model = llama()
    how = {"batch_size": 16 // steps, "steps": steps, "bf16": bf16, **WAYS[way](model)}
    got, stepped = trained(tmp_path, model, **how)
    assert loss == pytest.approx(math.log(VOCABULARY), rel=0.05)  # it guesses still
    assert got == pytest.approx(loss, rel=2**-8 if bf16 else 1e-6)
    # Steps are up to 0.045. In bfloat16 the gradients of four parts are each rounded to 8 bits.
    torch.testing.assert_close(stepped, weights, rtol=0, atol=1e-3 if bf16 else 4e-7)
    assert (stepped - torch.cat([p.ravel() for p in llama().parameters()])).abs().max() > 1e-3


@pytest.mark.parametrize("fuse_head", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_a_patched_model_has_the_loss_and_gradients_of_its_own(kind, fuse_head):
    own, model, entries = MODELS[kind](), MODELS[kind](), dict(LOSS_MAPPING)
    adapter.patch_loss(model, fuse_head=fuse_head)
    assert entries == LOSS_MAPPING  # by which Trainer recognises a loss that shifts
    counts = ({"num_items_in_batch": n} for n in (torch.tensor(50), 7))
    for extra in ({}, *counts, {"shift_labels": batch()["labels"].roll(-1, 1)}):
        own.zero_grad()
        model.zero_grad()
        theirs, ours = own.train()(**batch(), **extra), model.train()(**batch(), **extra)
        theirs.loss.backward()
        ours.loss.backward()
        torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-6, atol=0)
        for (name, p), q in zip(model.named_parameters(), own.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7, msg=name)
        assert (ours.logits is None) == fuse_head


class Largest(TorchDispatchMode):
    """Records the greatest number of elements that the memory of a result holds."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor):
                self.most = max(self.most, x.untyped_storage().nbytes() // x.itemsize)
        return result


def test_a_fused_head_never_makes_the_logits():
    logits, parameters = 16 * LENGTH * VOCABULARY, 16 * VOCABULARY
    for fuse_head in (True, False):
        model = llama().train()
        options = {"block_rows": 8} if fuse_head else {}
        adapter.patch_loss(model, fuse_head=fuse_head, **options)
        with Largest() as seen:
            model(**batch(16)).loss.backward()
        if fuse_head:
            assert parameters <= seen.most < logits / 4
        else:
            assert seen.most >= logits


def test_a_fused_head_makes_logits_where_they_are_asked_for():
    own, model, one = llama(), llama(), batch()
    adapter.patch_loss(model, fuse_head=True)
    ids = one["input_ids"]
    for train, passed in ((True, {}), (False, {}), (False, {"labels": one["labels"]})):
        theirs, ours = (m.train(train)(input_ids=ids, **passed) for m in (own, model))
        torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=0)
    adapter.patch_loss(model, fuse_head=True)
    hidden = torch.ones(2, 16)
    assert model.lm_head(hidden).shape == (2, VOCABULARY)  # outside of a forward pass
    first, second = model.train()(**one, return_dict=False), own.train()(**one, return_dict=False)
    assert len(first) == len(second) - 1
    torch.testing.assert_close(first[0], second[0], rtol=1e-6, atol=0)
    with pytest.raises(IndexError):
        model(input_ids=ids + VOCABULARY, labels=ids)
    assert model.lm_head(hidden).shape == (2, VOCABULARY)  # after one, though it failed


def test_autocast_computes_in_its_dtype():
    own, model = llama(), llama()
    adapter.patch_loss(model, fuse_head=True)
    seen = []
    adapter_loss = model._loss_function
    model.loss_function = lambda **kw: seen.append(kw["logits"]) or adapter_loss(**kw)
    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = (m.train()(**batch()).loss for m in (own, model))
    assert [a.dtype for a in seen[0].factors[:2]] == [torch.bfloat16] * 2
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=2**-8, atol=0)
    ours.backward()
    assert model.lm_head.weight.grad.dtype == torch.float32


def test_options_reach_the_loss():
    model, one = llama().train(), batch()
    logits = model(input_ids=one["input_ids"]).logits.double()[:, :-1]
    targets = one["labels"][:, 1:]
    seen = targets != -100
    lse = logits.logsumexp(-1)
    nll = lse - logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    expected = ((nll + 0.1 * lse**2) * seen).sum() / seen.sum()
    for fuse_head in (False, True):
        adapter.patch_loss(model, fuse_head=fuse_head, z_loss=0.1)
        assert model(**one).loss.item() == pytest.approx(expected.item(), rel=1e-6)
    adapter.unpatch_loss(model)
    outputs = model(input_ids=one["input_ids"])
    loss = partial(adapter.causal_lm_loss, z_loss=0.1)
    for which in (outputs, outputs.to_tuple()):
        assert loss(which, one["labels"]).item() == pytest.approx(expected.item(), rel=1e-6)


def test_under_data_parallel_the_count_comes_once_for_each_device():
    of = llama()(input_ids=batch()["input_ids"]), batch()["labels"]
    once = adapter.causal_lm_loss(*of, num_items_in_batch=20)
    assert once == adapter.causal_lm_loss(*of, num_items_in_batch=torch.full((2, 1), 20))


def test_unpatched_as_before_and_copies_are_their_own():
    model, one = llama().train(), batch()
    within = SimpleNamespace(get_base_model=lambda: model)  # as an adapter of PEFT
    before = model(**one).loss.item()
    adapter.patch_loss(within, fuse_head=True, z_loss=1.0)
    patched = model(**one).loss.item()
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.lm_head.weight.zero_()
    # All logits are 0: every token costs log V, and its square.
    zero = math.log(VOCABULARY) + math.log(VOCABULARY) ** 2
    assert copied(**one).loss.item() == pytest.approx(zero, rel=1e-6)
    assert model(**one).loss.item() == patched != before
    adapter.unpatch_loss(within)
    adapter.unpatch_loss(model)
    again = model(**one)
    assert again.loss.item() == before
    assert again.logits is not None
    assert len(model._forward_hooks) == len(model._forward_pre_hooks) == 0
    assert pickle.loads(pickle.dumps(model))(**one).loss.item() == before


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # the compiler's own
def test_a_model_with_a_fused_head_is_compiled():
    """The compiler asks a tensor what it is; the logits that were not made are none."""
    model, one = llama().train(), batch()
    adapter.patch_loss(model, fuse_head=True)
    plain = model(**one).loss
    assert torch.compile(model, backend="eager")(**one).loss == plain


def test_what_cannot_be_patched_is_refused():
    other = transformers.BertConfig(
        vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    )
    with pytest.raises(ValueError, match=r"^model: its loss is ForMaskedLMLoss, expected the For"):
        adapter.patch_loss(transformers.BertForMaskedLM(other))
    model = llama()
    own, other = model.loss_function, torch.nn.modules.linear.NonDynamicallyQuantizableLinear
    model.lm_head = other(16, VOCABULARY)
    with pytest.raises(
        ValueError, match=r"^model: its head is NonDyn.*, expected torch\.nn\.Linear"
    ):
        adapter.patch_loss(model, fuse_head=True)
    assert model.loss_function is own
    with pytest.raises(ValueError, match=r"^labels: is None"):
        adapter.causal_lm_loss(None, None)


@pytest.mark.parametrize("use", [torch.tanh, lambda x: x.shape, lambda x: 2 * x, lambda x: x[0]])
def test_a_model_that_computes_with_its_logits_is_an_error_not_a_wrong_number(use):
    """As Gemma does, which caps them."""
    unmade = adapter._Unmade(None, None, None)
    assert not hasattr(unmade, "dtype")  # which Accelerate asks of all that a model returns
    assert unmade.float() is unmade
    with pytest.raises((RuntimeError, AttributeError), match=r"^fuse_head: .* without fuse_head$"):
        use(unmade)
