"""Published data that tests of several metrics share."""

import numpy as np


def subarachnoid_haemorrhage():
    """Outcome, S100B and WFNS grade of 113 patients: aSAH of the R package pROC.

    S100B is given by its rank among the distinct values, cases by increasing S100B.
    """
    good = [int(n) for n in "05326667403443212001000101110101011210200000000000"]
    poor = [int(n) for n in "10003122112101000110111011101010200011011112111111"]
    s100b = np.append(np.repeat(range(50), good), np.repeat(range(50), poor))
    grades_good = (
        "112311111111121321211111212112211211212112112122214121212454434425544151"
    )
    grades_poor = "52121222225342445244255525545545555545255"
    wfns = np.array([int(grade) for grade in grades_good + grades_poor])
    return np.repeat(["Good", "Poor"], [72, 41]), s100b, wfns
