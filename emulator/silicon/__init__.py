"""Measure a Verilog design on a real cell library."""
