"""What people do with it, II: linear solvers on emulated arithmetic."""
