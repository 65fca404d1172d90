"""Who answers a prompt: a model in this process, or a server over HTTP."""
