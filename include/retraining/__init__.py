"""When a model is trained again, and whether the new one takes the place of the present one.

    include.retraining.plans     the reviewed file of plans: what is trained, on what, when, under which gate
    include.retraining.request   what a run of `retrain_yolo` is asked for, over its plan
    include.retraining.novelty   whether there is anything new to train on
    include.retraining.gate      whether a challenger may take the champion's place

Nothing here knows Airflow, and nothing here needs torch.
"""
