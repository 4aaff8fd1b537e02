"""Recipes, runs and their records, fair comparisons, reports."""
