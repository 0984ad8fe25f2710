"""What people do with it, I: networks trained from scratch on emulated arithmetic."""
