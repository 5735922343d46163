"""Pipeline: what the verbs call: prepare targets, fit the networks, evaluate, report."""
