"""Decides when to retrain a model, and whether the new version replaces the current one.

    include.retraining.plans     the file of plans: what to train, on which data, when, and with which gate
    include.retraining.request   the parameters of a run of `retrain_yolo`, which override its plan
    include.retraining.gate      whether to train a challenger, and whether it may replace the champion

This package needs neither Airflow nor torch.
"""
