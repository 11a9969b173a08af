"""TensorFlow: eager tensors on NumPy views, tf.function and XLA by plain operations."""
