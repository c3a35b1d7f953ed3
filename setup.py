"""What setup.cfg cannot say: the packages, found so that none is forgotten, and the compiled part; without a compiler
ptyprep is built without it and is slower."""
from glob import glob

from setuptools import Extension, find_packages, setup

setup(packages=[*find_packages(include=["ptyprep", "ptyprep.*"]),
                "ptyprep_recipes", *(f"ptyprep_recipes.{name}" for name in find_packages("recipes"))],
      package_dir={"ptyprep_recipes": "recipes"},       # `find:` of setup.cfg knows no other names than the folders'
      ext_modules=[Extension("ptyprep.kernels._core", ["ptyprep/kernels/core/module.c"],
                             depends=glob("ptyprep/kernels/core/*.h"), extra_compile_args=["-O3"],
                             py_limited_api=True, optional=True)])
