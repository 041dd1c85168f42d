"""Simulated jets: a stand-in for the jet-tagging data set of OpenML (42468, ``hls4ml_lhc_jets_hlf``).

Five classes of boosted jets (g, q, w, z, t; 1 TeV, anti-kT with R = 0.8, pp at 13 TeV) from Pythia 8 and FastJet,
groomed with mMDT and reduced to the 16 features of Coleman et al. (arXiv:1709.08705) and Duarte et al.
(arXiv:1804.06913). The chain is the published one, with Pythia's leading-order processes in place of MadGraph: hard
partons, undecayed bosons and tops in a 1 % window around 1 TeV; decay, shower, underlying event, hadronisation; the two
leading jets of each event, if they are close to a hard parton.

Needs the extra ``generate``: ``pip install 'qapsule[generate]'``, then ``python -m recipes.simulation --help``.
"""
