"""Turns a request into a job that one run owns, and determines the dataset that it trains on."""
