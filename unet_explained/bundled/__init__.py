"""The trained model that ships with the package, and the small world that it knows.

world.py, draw.py and captions.py make scenes, pictures, masks and captions; weights/ is a pipeline
in diffusers' layout, with its model card. How it was made and graded: training/ in the repository.
"""
