"""Statistics of records: tables, comparisons, gaps, intervals, means, published references. Imports no PyTorch."""
