"""Three ways to run the same Flower app: in this process, with Ray, and as a deployment."""
