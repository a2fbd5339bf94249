"""The metrics: functions of a model and clips that return a score, and of a policy's episodes."""
