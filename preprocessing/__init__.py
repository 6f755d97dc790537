"""What is done to text and tokens, as plain functions.

Takes files, Arrow batches and arrays of ids; gives values and files. It knows neither
Beam nor TensorFlow, nor any other room. Each folder imports only from those above it.
"""
