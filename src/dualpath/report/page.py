"""placeholder written by helper"""


def write_report(path, results, found, model, folder):
    path.write_text("x")
