"""Events that CRMs send by webhook: their sources, their verification, and their mapping to orders."""
