"""Generated personal data and its look-alikes, from the formats that their issuers publish."""
