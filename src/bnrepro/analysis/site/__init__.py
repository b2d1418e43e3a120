"""The site: pages of the study made from results/, reference pages made from the code, interactive figures."""
