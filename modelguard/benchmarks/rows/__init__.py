"""What stands in the measured tables: functions from results to a header and rows."""
