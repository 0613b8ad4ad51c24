"""`python -m kws_imagebind.training.phonebind` trains PhoneBind."""

from kws_imagebind.training.phonebind.train import main

if __name__ == "__main__":
    main()
