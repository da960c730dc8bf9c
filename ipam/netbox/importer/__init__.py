"""Read existing assignments from NetBox."""
