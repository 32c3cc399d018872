"""What comes with sertk, registered through the door that guests use. Imports `sertk.core` and libraries only."""
