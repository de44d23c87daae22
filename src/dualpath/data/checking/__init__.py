"""What is in the files of a data set and what is wrong with them: `dualpath data check`."""
