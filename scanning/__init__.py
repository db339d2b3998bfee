"""What is inside images: vulnerability scans and their notices. No views."""
