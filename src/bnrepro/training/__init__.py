"""How nets are trained: one pure step, the state of S replicas, engines that advance it, the loop."""
