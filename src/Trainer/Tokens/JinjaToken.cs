namespace Z1Coder.Trainer.Tokens;

/// <summary>What a piece of a template is.</summary>
internal enum JinjaTokenKind
{
    /// <summary>Text between tags.</summary>
    Data,

    /// <summary>{%</summary>
    BlockBegin,

    /// <summary>%}</summary>
    BlockEnd,

    /// <summary>{{</summary>
    PrintBegin,

    /// <summary>}}</summary>
    PrintEnd,

    /// <summary>A name or keyword.</summary>
    Name,

    /// <summary>A quoted string, unescaped.</summary>
    String,

    /// <summary>A whole number.</summary>
    Integer,

    /// <summary>A number with a point or exponent.</summary>
    Float,

    /// <summary>Punctuation.</summary>
    Operator,

    /// <summary>After the last token.</summary>
    End,
}

/// <summary>One token of a template.</summary>
/// <param name="Kind">what it is</param>
/// <param name="Text">the text, unescaped</param>
/// <param name="Line">where it begins, from 1</param>
internal readonly record struct JinjaToken(JinjaTokenKind Kind, string Text, int Line);
