"""How the bundled model is made and graded: see README.md. Not part of the installed package.

It imports from unet_explained; nothing there imports from here.
"""
