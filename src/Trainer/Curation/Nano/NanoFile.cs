namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>One file of the corpus.</summary>
/// <param name="Name">Its name in the directory.</param>
/// <param name="Records">Its lines.</param>
/// <param name="Bytes">Its length.</param>
/// <param name="Sha256">The hash of its bytes, in lower-case hexadecimal digits.</param>
public sealed record NanoFile(string Name, int Records, long Bytes, string Sha256);
