package docs_test

// commands is made from the commands' own help, so that what fails there, as it
// must in a world where nothing is wrong, is said here.
var commands = page{}
