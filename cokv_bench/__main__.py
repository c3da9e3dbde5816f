"""`python -m cokv_bench` is `cokv-bench`."""

from cokv_bench.cli import main

if __name__ == "__main__":
    main()
