"""The walls around a program that a model wrote, one module for each.

They need the standard library only: `limo_ray.verify.sandbox` loads them in an interpreter without
site-packages, where this package is called `walls`.
"""
