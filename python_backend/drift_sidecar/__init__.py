"""The process beside Triton that tails the decision log: exact counts, drift, evidence, quality, metrics.

Statistics, pure functions over counts of rows against a release's reference (`fraud_scoring.reference`)
    statistics        effect sizes, with their distributions where nothing moved
    null_set          what is not drift: hour of the week, days that differ, a finite reference, the tolerance
    betting           bets against it at a fair price
    evidence          e-detectors: when the counts say that something moved, at a stated rate of false pages
    alerts, monitor   evidence AND size: what is told to people; one release under watch
    quality           missing values, calibration, performance before and after labels

Measured by simulation (`fraudctl drift simulate`)
    worlds, simulation, drifts   streams and what is injected into them
    rare_alarms                  rates of false alarms that are too low to be counted
    peers, peer_delays           river's detectors at the same rate of false alarms
    study, study_text            all of it, and the targets; as Markdown

The report (`fraudctl drift report`)
    history, findings            a log, minute by minute; what it amounts to
    charts, report*              inline SVG; one HTML file

The process: the modules that `service` and `__main__` put together.
"""
