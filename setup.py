"""The compiled part, which setup.cfg cannot name; without a compiler ptyprep is built without it and is slower."""
from glob import glob

from setuptools import Extension, setup

setup(ext_modules=[Extension("ptyprep._core", ["ptyprep/core/module.c"], depends=glob("ptyprep/core/*.h"),
                             extra_compile_args=["-O3"], py_limited_api=True, optional=True)])
