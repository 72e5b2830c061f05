//! Ordering by a fixed sequencer: seat 0 proposes the next entry, q seats check and co-sign it.
//!
//! The machine talks to it through four calls ([`Ordering::hear_candidate`],
//! [`Ordering::hear_vote`], [`Ordering::drive`], [`Ordering::pending`]), which a Byzantine
//! agreement can offer as well.
//!
//! *Invariant:* a verifier votes for at most one entry at a height, and what it signs is stored
//! before it is sent, so two entries of one height can never both have a certificate.

use std::collections::BTreeMap;

use cairn_protocol::{
    Candidate, Certificate, CertifiedEntry, ChainState, Entry, EntryKind, Gossip, Record, SeatSignature, VerifierKey,
    VerifierSecret, Vote,
};

/// What the ordering asks its owner to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Store durably, then publish.
    Publish(Gossip),
    /// The next entry has its certificate.
    Decided(CertifiedEntry),
}

/// The fixed sequencer's protocol, for the height after the chain's tip.
#[derive(Debug)]
pub struct Ordering {
    secret: VerifierSecret,
    candidate: Option<Candidate>,
    votes: BTreeMap<VerifierKey, Vote>,
}

impl Ordering {
    /// The ordering for the verifier with this key.
    pub fn new(secret: VerifierSecret) -> Self {
        Self { secret, candidate: None, votes: BTreeMap::new() }
    }

    /// Takes a candidate that passed the gate. The first one of a height stays.
    pub fn hear_candidate(&mut self, candidate: Candidate, chain: &ChainState) {
        self.forget_settled(chain);
        if self.candidate.is_none() && candidate.entry.height == chain.height().saturating_add(1) {
            self.candidate = Some(candidate);
        }
    }

    /// Takes a vote that passed the gate. The first one of each member and height stays.
    pub fn hear_vote(&mut self, vote: Vote, chain: &ChainState) {
        self.forget_settled(chain);
        if vote.height == chain.height().saturating_add(1) {
            self.votes.entry(vote.verifier).or_insert(vote);
        }
    }

    fn forget_settled(&mut self, chain: &ChainState) {
        let next = chain.height().saturating_add(1);
        self.candidate.take_if(|candidate| candidate.entry.height < next);
        self.votes.retain(|_, vote| vote.height >= next);
    }

    /// Goes on as far as possible: `propose` gives the next entry where this verifier is the
    /// sequencer, `agree` says whether a candidate's claim about the world is true here.
    pub fn drive(
        &mut self,
        chain: &ChainState,
        propose: impl FnOnce() -> Option<EntryKind>,
        agree: impl FnOnce(&Entry) -> bool,
    ) -> Vec<Effect> {
        self.forget_settled(chain);
        let mut effects = Vec::new();
        let me = self.secret.public();
        if self.candidate.is_none()
            && chain.roster().first() == Some(&me)
            && !self.votes.contains_key(&me)
            && let Some(kind) = propose()
        {
            let candidate = Candidate::sign(chain.next(kind), &self.secret);
            self.candidate = Some(candidate.clone());
            effects.push(Effect::Publish(Gossip::Candidate(candidate)));
        }
        let Some(candidate) = &self.candidate else {
            return effects;
        };
        let entry = &candidate.entry;
        let may_vote = chain.roster().contains(&me) && !self.votes.contains_key(&me);
        if may_vote && chain.check(entry).is_ok() && agree(entry) {
            let vote = Vote::sign(entry, &self.secret);
            self.votes.insert(me, vote.clone());
            effects.push(Effect::Publish(Gossip::Vote(vote)));
        }
        if let Some(certificate) = self.certificate(entry, chain) {
            effects.push(Effect::Decided(CertifiedEntry { entry: entry.clone(), certificate }));
        }
        effects
    }

    fn certificate(&self, entry: &Entry, chain: &ChainState) -> Option<Certificate> {
        let id = entry.id();
        let votes: Vec<SeatSignature> = (0u8..)
            .zip(chain.roster())
            .filter_map(|(seat, key)| {
                let vote = self.votes.get(key).filter(|vote| vote.entry == id)?;
                Some(SeatSignature { seat, signature: vote.signature })
            })
            .collect();
        if votes.len() < chain.quorum().votes {
            return None;
        }
        Some(Certificate { votes: votes.try_into().ok()? })
    }

    /// The candidate and the votes of the open height, for peers that missed them.
    pub fn pending(&self) -> impl Iterator<Item = Gossip> + '_ {
        let candidate = self.candidate.iter().cloned().map(Gossip::Candidate);
        candidate.chain(self.votes.values().cloned().map(Gossip::Vote))
    }
}
