"""The whole life of one model: a recipe, a run folder, and the stages in their order."""
