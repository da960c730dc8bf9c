"""ONUs and CPEs: the target state of each device, and the controllers that apply it."""
