"""AWS as text: templates rendered from the code's own names, images, scaling and alarms, and what deploys them."""
