"""What the demonstration runs from the image."""

import os
import sys

import numpy
import pandas
import tabulate

squares = pandas.DataFrame({"n": range(4), "n²": numpy.arange(4) ** 2})
print(tabulate.tabulate(squares, headers="keys", showindex=False))
print("python ", sys.executable)
print("pandas ", pandas.__file__)
print("OMP_PROC_BIND =", os.environ["OMP_PROC_BIND"])
