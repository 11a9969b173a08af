"""The conformance suite: does an implementation of a loss do what its definition says?"""
