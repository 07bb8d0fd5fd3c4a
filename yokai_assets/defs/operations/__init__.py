"""Operating the road: jobs, schedules, sensors, and launching runs from the command line."""
