"""From what somebody asked for to a job that one run owns, with the dataset that it trains on."""
