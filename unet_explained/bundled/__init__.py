"""The trained model that ships with the package, and the small world it was trained on.

world.py, draw.py and captions.py make scenes, pictures, masks and captions; train.py and
evaluate.py are commands; weights/ is the result, a pipeline in diffusers' layout.
"""
