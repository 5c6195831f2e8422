"""What every service of Ciclo needs except its purpose; import the modules."""
