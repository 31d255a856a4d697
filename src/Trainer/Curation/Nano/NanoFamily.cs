namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>What a plain problem works on.</summary>
internal enum NanoFamily
{
    /// <summary>A list of integers xs: filter, map, reduce.</summary>
    List,

    /// <summary>The integers from 1 to n: filter, map, reduce.</summary>
    Range,

    /// <summary>One integer x: a condition and two branches.</summary>
    Choice,

    /// <summary>A string s: filter, map, finish over its characters.</summary>
    Text,
}
