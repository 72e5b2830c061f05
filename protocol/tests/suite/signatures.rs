//! Signatures: what they bind, and what strict verification refuses.

use cairn_protocol::*;
use ed25519_dalek::Signer;

use crate::kit;

const DOMAINS: [(Domain, &str); 8] = [
    (Domain::Reports, "cairn 1 sign reports"),
    (Domain::Idea, "cairn 1 sign idea"),
    (Domain::Proposal, "cairn 1 sign proposal"),
    (Domain::Ticket, "cairn 1 sign ticket"),
    (Domain::Commit, "cairn 1 sign commit"),
    (Domain::Verdict, "cairn 1 sign verdict"),
    (Domain::Candidate, "cairn 1 sign candidate"),
    (Domain::Vote, "cairn 1 sign vote"),
];
const TRACK: TrackId = TrackId([1; 32]);
const HASH: [u8; 32] = [2; 32];

#[test]
fn a_signature_is_over_padded_tag_track_and_hash() {
    for (domain, tag) in DOMAINS {
        let mut message = [0u8; 24 + 32 + 32];
        message[..tag.len()].copy_from_slice(tag.as_bytes());
        message[24..56].copy_from_slice(&TRACK.0);
        message[56..].copy_from_slice(&HASH);
        let by_hand = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).sign(&message).to_bytes();
        let secret = AuthorSecret::from_bytes(&[7; 32]);
        assert_eq!(secret.sign(domain, &TRACK, &HASH), Signature(by_hand), "{tag}");
    }
}

#[test]
fn a_signature_is_good_for_one_domain_one_track_one_hash_one_key() {
    let (secret, other) = (kit::verifier(0), kit::verifier(1));
    for (domain, _) in DOMAINS {
        let signature = secret.sign(domain, &TRACK, &HASH);
        for (tried, _) in DOMAINS {
            let verified = secret.public().verify(tried, &TRACK, &HASH, &signature);
            assert_eq!(verified.is_ok(), tried == domain, "{domain:?} as {tried:?}");
        }
        assert_eq!(secret.public().verify(domain, &TrackId([3; 32]), &HASH, &signature), Err(BadSignature));
        assert_eq!(secret.public().verify(domain, &TRACK, &[3; 32], &signature), Err(BadSignature));
        assert_eq!(other.public().verify(domain, &TRACK, &HASH, &signature), Err(BadSignature));
    }
}

#[test]
fn every_flipped_bit_of_a_signature_is_refused() {
    let secret = kit::author(1);
    let signature = secret.sign(Domain::Ticket, &TRACK, &HASH);
    assert_eq!(secret.public().verify(Domain::Ticket, &TRACK, &HASH, &signature), Ok(()));
    for bit in 0..512 {
        let mut flipped = signature;
        flipped.0[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(secret.public().verify(Domain::Ticket, &TRACK, &HASH, &flipped), Err(BadSignature), "bit {bit}");
    }
}

/// Order L of the base point, little-endian: 2^252 + 27742317777372353535851937790883648493.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[test]
fn a_second_form_of_a_signature_is_refused() {
    let secret = kit::author(1);
    let signature = secret.sign(Domain::Ticket, &TRACK, &HASH);
    // S + L is the same number modulo L: the classical way to a second signature of one message.
    let (mut second, mut carry) = (signature, 0u16);
    for (byte, order) in second.0[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(carry, 0);
    assert_eq!(secret.public().verify(Domain::Ticket, &TRACK, &HASH, &second), Err(BadSignature));
}

/// Encodings of points of small order, and of numbers that are no points.
const WEAK_KEYS: [&str; 9] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[test]
fn a_weak_key_signs_nothing() {
    // With A of order 1 or 2, R = identity and S = 0 satisfy the loose equation for (half of) all messages.
    let mut trivial = Signature([0; 64]);
    trivial.0[0] = 1;
    for key in WEAK_KEYS {
        let key: AuthorKey = key.parse().unwrap();
        for hash in 0..32u8 {
            for (domain, _) in DOMAINS {
                assert_eq!(key.verify(domain, &TRACK, &[hash; 32], &trivial), Err(BadSignature), "{key}");
            }
        }
    }
    // The same test on the library's loose verification shows that the case is not empty.
    let loose = ed25519_dalek::VerifyingKey::from_bytes(&WEAK_KEYS[2].parse::<Hash32>().unwrap().0).unwrap();
    let signature = ed25519_dalek::Signature::from_bytes(&trivial.0);
    assert!(ed25519_dalek::Verifier::verify(&loose, b"anything", &signature).is_ok());
}

#[test]
fn secrets_are_not_shown() {
    let bytes = [0xab; 32];
    let shown = [
        format!("{:?}", AuthorSecret::from_bytes(&bytes)),
        format!("{:?}", VerifierSecret::from_bytes(&bytes)),
        format!("{:#?}", PeerSecret::from_bytes(&bytes)),
    ];
    for text in shown {
        assert!(!text.contains("abab") && !text.contains("171, 171"), "{text}");
        assert_eq!(text, format!("secret of {}", AuthorSecret::from_bytes(&bytes).public()));
    }
    assert_eq!(PeerSecret::from_bytes(&bytes).to_bytes(), bytes);
}

#[test]
fn a_signed_record_binds_its_body_its_track_and_its_kind() {
    let author = kit::author(1);
    let idea = Idea {
        track: TRACK,
        author: author.public(),
        title: "t".try_into().unwrap(),
        text: Text::default(),
        source: Text::default(),
    };
    let signed = Signed::by_author(idea.clone(), &author);
    assert_eq!(signed.verify(), Ok(()));
    let with = |body| Signed { body, signature: signed.signature }.verify();
    assert_eq!(with(Idea { title: "u".try_into().unwrap(), ..idea.clone() }), Err(BadSignature));
    assert_eq!(with(Idea { track: TrackId([9; 32]), ..idea.clone() }), Err(BadSignature));
    assert_eq!(with(Idea { author: kit::author(2).public(), ..idea.clone() }), Err(BadSignature));
    // Another's name under one's own signature.
    assert_eq!(Signed::by_author(idea, &kit::author(2)).verify(), Err(BadSignature));
}

#[test]
fn a_vote_is_for_one_height() {
    let chain = kit::chain(4, &[]);
    let entry = chain.next(kit::queued(1, 1, 1));
    let vote = Vote::sign(&entry, &kit::verifier(0));
    assert_eq!(vote.verify(), Ok(()));
    // Anyone could fill a member's place at the next height with such a vote.
    assert_eq!(Vote { height: 2, ..vote.clone() }.verify(), Err(BadSignature));
    assert_eq!(Vote { entry: EntryId([1; 32]), ..vote.clone() }.verify(), Err(BadSignature));
    assert_eq!(Vote { track: TRACK, ..vote.clone() }.verify(), Err(BadSignature));
    assert_eq!(Vote { verifier: kit::verifier(1).public(), ..vote.clone() }.verify(), Err(BadSignature));
    // A candidate's signature is no vote.
    let candidate = Candidate::sign(entry, &kit::verifier(0));
    assert_eq!(candidate.verify(), Ok(()));
    assert_eq!(Vote { signature: candidate.signature, ..vote.clone() }.verify(), Err(BadSignature));
    assert_eq!(Candidate { signature: vote.signature, ..candidate.clone() }.verify(), Err(BadSignature));
    let mut other = candidate;
    other.entry.height = 2;
    assert_eq!(other.verify(), Err(BadSignature));
}

#[test]
fn a_header_names_the_proposal_of_its_commit() {
    let chain = kit::chain(4, &[]);
    let commit = kit::commit(&chain, &kit::author(1), kit::BASE - 200, 1);
    let header = commit.header();
    assert_eq!((header.verify(), commit.verify()), (Ok(()), Ok(())));
    assert_eq!((header.commit, header.proposal), (commit.id(), commit.body.proposal.id()));
    assert_eq!((header.track, header.author), (chain.id(), kit::author(1).public()));
    // Anyone could hold another proposal's place with such a header.
    assert_eq!(CommitHeader { proposal: ProposalId([1; 32]), ..header.clone() }.verify(), Err(BadSignature));
    assert_eq!(CommitHeader { commit: CommitId([1; 32]), ..header.clone() }.verify(), Err(BadSignature));
    assert_eq!(CommitHeader { author: kit::author(2).public(), ..header.clone() }.verify(), Err(BadSignature));
    assert_eq!(CommitHeader { track: TRACK, ..header }.verify(), Err(BadSignature));
}
