"""What Feast knows: entities, sources, views, on-demand views and the feature service. Only Feast reads them."""
