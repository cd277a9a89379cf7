"""What runs inside the training image.

`config` is the contract with the operator (pydantic only), `launch` is process 1 of every training pod, `prepare` turns
the user's data into tokenised Arrow files, `train` is one rank, `volume` knows what lies where on the claim.
"""
