"""The paper's figures at the scale of one model: what is trained, measured, claimed and drawn."""
