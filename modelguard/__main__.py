"""`python -m modelguard` is the command `modelguard`."""

from modelguard.cli import main

if __name__ == "__main__":
    main()
