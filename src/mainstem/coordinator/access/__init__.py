"""Users, access control entries, and the decisions that follow from them."""
