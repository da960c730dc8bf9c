"""ONUs and CPEs: the state that each should be in, and the controllers that bring them there."""
