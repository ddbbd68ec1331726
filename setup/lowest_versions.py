"""Print the lowest versions that setup.cfg allows, as constraints for pip. Runs with any Python 3."""

import re
from configparser import ConfigParser

EXTRAS = ("diffusion", "plot", "dev")

if __name__ == "__main__":
    config = ConfigParser()
    config.read("setup.cfg")
    extras = config["options.extras_require"]
    for lines in (config["options"]["install_requires"], *(extras[name] for name in EXTRAS)):
        for name, version in re.findall(r"^([\w-]+)(?:\[\w+\])?>=([\w.]+)", lines, re.MULTILINE):
            print(f"{name}=={version}")
